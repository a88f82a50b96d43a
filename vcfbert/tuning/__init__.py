"""Studies of parameters with Optuna. This package alone imports it.

A study belongs to a variant, the data, the code and what is not searched (``identity``); its trials are rows of a
database (``storage``) that any number of workers take from (``study``). A trial trains without writing a bundle and is
a child run in MLflow (``trial``). What won is a patch of ``params.yaml`` (``patch``); ``plots`` shows the rest.
"""
