#!/bin/bash
vllm serve m ${BIND:+--host "$BIND"}
