"""Measuring: scores with intervals, differences, the verdict. Labels are looked at here, and nowhere before."""
