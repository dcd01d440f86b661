"""Where the parts are put together: flows, runners, the command line, the report."""
