"""Maps of what a network's score depends on, by many methods behind one interface: images in, maps out."""
