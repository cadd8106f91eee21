defmodule Switchboard.Application do
  @moduledoc """
  Makes the VM a node, which registers with the port mapper in the VM, unless it was one
  from the start.
  """
  use Application

  @impl true
  def start(_type, _arguments) do
    with :ok <- make_node(Node.alive?()) do
      Supervisor.start_link([Switchboard.Directory], strategy: :one_for_one)
    end
  end

  defp make_node(true), do: :ok

  defp make_node(false) do
    node = String.to_atom(Application.fetch_env!(:switchboard, :node))
    with {:ok, _pid} <- Node.start(node, :longnames), do: :ok
  end

  @impl true
  def stop(_state) do
    Node.stop()
  end
end
