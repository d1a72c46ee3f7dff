"""Mined facts about a table: guards for marks, rules for canaries."""
