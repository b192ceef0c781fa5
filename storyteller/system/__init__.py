"""Operating system services: files, child processes, priorities, memory, hardware."""
