import Config

# The port is not here: both the port mapper and the VM's own client of it read
# ERL_EPMD_PORT.
config :portmapper, log_level: :info

# rel/env.sh.eex sets it for the commands of the release.
config :switchboard, node: System.get_env("RELEASE_NODE", "switchboard@127.0.0.1")
