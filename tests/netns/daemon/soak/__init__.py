"""The soak: bouts of random faults around a daemon, and a model that knows how things have to be after each.

    python -m tests.netns.daemon.soak --seconds 600 --seed 7

The model is computed from the steps alone. After each bout comes a quiet point, at which status, state files, kernel,
new connections, the daemon's resources and the run directory are held against it. In a calm bout no step may cost a
connection, and the steady traffic of the clients says whether one did. Even and odd seeds are without and with netifd;
each second pair has the legacy build of iptables.
"""
