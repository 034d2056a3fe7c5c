#!/bin/bash
exec vllm serve m --host ::1
