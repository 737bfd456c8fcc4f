"""The main job on real traffic: which way connections go, before, during and after changes."""
