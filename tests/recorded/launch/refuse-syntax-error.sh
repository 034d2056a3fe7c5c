#!/bin/bash
if true; then
  vllm serve m --host 0.0.0.0
