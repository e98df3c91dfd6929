"""Ranks on one or many nodes: process group, launch, preemption, heartbeat, preflight."""
