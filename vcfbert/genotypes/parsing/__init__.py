"""Parser processes: files of others are parsed in processes of their own, which may crash and have limits.

``process`` starts them and receives what they read, ``child`` is what runs in them, ``server`` forks them for a process
with threads, ``confinement`` limits them, ``messages`` carries arrays between the two sides.
"""
