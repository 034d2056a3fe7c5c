#!/bin/bash
ARGS=(m --host 0.0.0.0)
exec python3 -c "import wrapper; wrapper.serve()" serve "${ARGS[@]}"
