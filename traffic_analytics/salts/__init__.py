"""Keep one salt per site and UTC day."""
