"""What the router's ubus answers for connbal: objects ``mwan3`` and ``connbal``, called by rpcd.

The shell scripts in ``/usr/libexec/rpcd`` list the methods, and hand each call to ``python3 -m connbal.rpcd OBJECT
METHOD``: one JSON object comes in on standard input, one goes out on standard output.
"""
