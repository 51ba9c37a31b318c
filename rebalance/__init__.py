"""The KIP-1071 member: joins a group on a broker and learns which tasks to run.

A pure state machine and one socket file; imports none of the other packages.
"""
