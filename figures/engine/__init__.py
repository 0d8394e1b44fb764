"""What finds, makes, checks, draws and reports on figures, and knows none of them.

=================  =============================================================================
What does          module
=================  =============================================================================
finds them         ``catalogue``, ``fingerprint``
makes them         ``runner``, ``worker``, ``files``, ``locks``, ``randomness``
compares numbers   ``check``, ``comparison``, ``findings``, ``sampling``, ``elsewhere``
labels data        ``labels``
draws              ``style``, ``colors``
shows              ``report``, ``explorer``
=================  =============================================================================
"""
