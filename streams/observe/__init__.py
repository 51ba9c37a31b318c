"""What is told of a running application: metrics, status, logs."""
