"""Does anything but the forgery give the label of a collection away?"""
