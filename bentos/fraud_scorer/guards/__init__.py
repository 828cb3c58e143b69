"""Who decides beside the model in a running service: lists, rules, and the breaker.

What they decide belongs to `fraud_assets/core/guards`, where lists are to `fraud_assets/adapters/guards`.
"""
