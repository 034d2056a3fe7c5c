#!/bin/bash
exec vllm serve m --host=localhost
