"""The offline stage: find faces, align them, compute their maps, write the cache."""
