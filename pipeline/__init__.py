"""The vocabulary every layer shares: value types, geometry, metrics, configuration, ports, errors.

Needs numpy and pydantic only; imports nothing from ``stages``, ``storage`` or ``flows``.
"""
