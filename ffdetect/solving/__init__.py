"""Linear heads on frozen trunks: views of faces, their statistics, ridge lines, nested choices."""
