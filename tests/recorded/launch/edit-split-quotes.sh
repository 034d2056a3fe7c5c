#!/bin/bash
vllm serve m --host 0.0."0".0
