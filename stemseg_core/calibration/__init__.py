"""What axes measure: names, offsets, scales, units."""
