"""What decides beside the model: lists of entities, declared rules, and the breaker of too many holds.

How conditions are written belongs to `contracts/conditions.py`, where lists are kept to `adapters/guards`, and what is
answered to `bentos/fraud_scorer/guards`.
"""
