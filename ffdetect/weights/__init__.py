SHIPPED = {"best": "dualstream.safetensors", "fast": "fast.safetensors"}
