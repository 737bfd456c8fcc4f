"""Probes: is a host reachable by one interface? All in this process, none forks, none needs a thread.

:class:`connbal.track.probes.prober.Prober` asks all hosts of an interface at once. Each method is a module with one
small class (:class:`connbal.track.probes.method.Method`) and the pure functions that read its replies.
"""
