"""The Prefect server and the server of reports: start, connection, loss and end."""
