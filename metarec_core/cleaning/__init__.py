"""Turn raw tables into clean ones, every dropped row accounted for."""
