"""`rabbet bench`: Rabbet beside other frameworks, on the same workloads, in turns."""
