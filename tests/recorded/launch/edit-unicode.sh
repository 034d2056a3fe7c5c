#!/bin/bash
# Größe: 8 GiB – läuft überall
echo "größer"; exec vllm serve "modèle" --host 0.0.0.0 --port 8000
