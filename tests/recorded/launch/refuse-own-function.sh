#!/bin/bash
run() { echo "+ $*"; "$@"; }
run vllm serve m --host 0.0.0.0
