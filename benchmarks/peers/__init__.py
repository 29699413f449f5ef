"""The libraries that sae-traits is compared with, and sae-traits itself, each behind the same contract.

Every module is run as a process in the environment of its library (`benchmarks/environments.py` makes them):

    cd benchmarks && .envs/sae_lens/bin/python -m peers.sae_lens '{"action": "steps", "patches": "x.safetensors", …}'

`-m` matters: run by its path, a script named like its library would import itself.
"""
