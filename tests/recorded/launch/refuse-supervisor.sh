#!/bin/bash
exec supervisord -n -c /opt/vllm/supervisord.conf
