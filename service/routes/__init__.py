"""One router a file; each only translates between HTTP and the models manager."""
