#!/bin/bash
(
  cd /
  exec vllm serve m --host 0.0.0.0
)
