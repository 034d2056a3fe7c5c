#!/bin/bash
# from a Windows editor
exec vllm serve m \
	--host 0.0.0.0	--port 8000