#!/bin/bash
exec "$(dirname "$0")/start_local_model.sh" llama
