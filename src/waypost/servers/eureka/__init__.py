"""The door for clients of Netflix Eureka: its REST operations, in JSON and in XML."""
