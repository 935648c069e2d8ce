"""Where a network looks, by many methods behind one interface: images in, maps out."""
