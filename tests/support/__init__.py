"""What several test modules need: frames made by scapy, hypothesis strategies for them."""
