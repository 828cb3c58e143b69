"""What callers of the service ask the database to take: labels, and answers about models that wait.

In the words and with the packages that a bento has; what becomes of it belongs to `workflows/`.
"""
