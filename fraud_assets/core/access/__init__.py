"""Who may ask the service for what: keys, their roles and how often they may ask.

Where keys lie belongs to `adapters/key_file.py`, which request needs which role to `bentos/fraud_scorer/keys.py`.
"""
