%% @doc Logs which nodes come and go. A process of yours listens like this.
-module(fleet_log).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

-spec init([]) -> {ok, reference()}.
init([]) ->
    portmapper_discovery:subscribe().

handle_call(_Request, _From, Reference) ->
    {reply, ok, Reference}.

handle_cast(_Message, Reference) ->
    {noreply, Reference}.

handle_info({portmapper_discovery, Reference, Event}, Reference) ->
    ok = log(Event),
    {noreply, Reference}.

log({nodes, Nodes}) -> ?LOG_INFO("connected: ~tp", [Nodes]);
log({connected, Node}) -> ?LOG_INFO("connected to ~ts", [Node]);
log({disconnected, Node}) -> ?LOG_INFO("disconnected from ~ts", [Node]);
log({failed, Node, Reason}) -> ?LOG_WARNING("cannot connect to ~ts: ~tp", [Node, Reason]);
log({Kind, Host}) -> ?LOG_INFO("~ts: ~tp", [Kind, Host]);
log({Kind, Host, Detail}) -> ?LOG_WARNING("~ts: ~tp: ~tp", [Kind, Host, Detail]).
