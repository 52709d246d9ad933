"""Reading a run folder: figures, verdict, table and page. Works on a half-finished run; nothing calls it while running."""
