"""Searches parameters with Optuna. Only this package imports it.

A study is identified by its variant, data, code and fixed parameters (``identity``). Its trials are rows of a database
(``storage``), from which any number of workers take them (``study``). A trial trains without writing a bundle and is a
child run in MLflow (``trial``). The best parameters become a patch of ``params.yaml`` (``patch``). ``plots`` and
``listing`` show all trials.
"""
