"""Scopegate: users, scopes and tokens for FastAPI teams."""
