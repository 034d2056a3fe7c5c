#!/usr/bin/env python3
import os
os.execvp("vllm", ["vllm", "serve", "m", "--host", "0.0.0.0"])
