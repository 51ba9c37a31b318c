"""The write-back cache of stores and the budget that its stores share."""
