"""Scopegate for other services: what it takes away stops counting here, without a call each."""

from scopegate_client.client import Scopegate, State
from scopegate_client.principals import InvalidToken, Principal, Unavailable

__all__ = ["InvalidToken", "Principal", "Scopegate", "State", "Unavailable"]
